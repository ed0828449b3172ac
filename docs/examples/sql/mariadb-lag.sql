select variable_value as lag
from information_schema.global_status
where variable_name = 'slave_lag_seconds'
