"""Every kind of policy as one type. Each knows its models, its cost, its need of features and its rule."""

from __future__ import annotations

from selector.policies.cascade import CascadePolicy, LookaheadPolicy
from selector.policies.input import InputPolicy
from selector.policies.pool import PoolPolicy
from selector.policies.staged import StagedPolicy

Policy = InputPolicy | CascadePolicy | LookaheadPolicy | StagedPolicy | PoolPolicy
