"""Publishing: models prepared, signed, replaced and cleaned away. Needs the extra ``publish``."""
