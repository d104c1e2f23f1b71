-- Once `fleetops database` has made the tables: take back what workers and operators do not need. After every upgrade, again.

REVOKE INSERT, DELETE ON run, drive, device, step, command, evidence, pace, gate FROM fleetops_worker;
REVOKE UPDATE ON device, step, command, evidence FROM fleetops_worker;
REVOKE DELETE ON chunk, result, tally, event FROM fleetops_worker;
REVOKE INSERT ON chunk FROM fleetops_worker;
REVOKE DELETE ON run, drive, device, step, chunk, attempt, result, event, command, evidence, pace, gate FROM fleetops_operator;
REVOKE INSERT, UPDATE, DELETE ON attempt FROM fleetops_operator;
REVOKE INSERT, DELETE ON worker FROM fleetops_operator;
REVOKE ALL ON fleetops_migration, yoyo_lock, _yoyo_log, _yoyo_version FROM fleetops_worker, fleetops_operator;
