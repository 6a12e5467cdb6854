"""Every kind of policy, fitted and simulated on outcomes."""
