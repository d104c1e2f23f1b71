-- Roles with no more rights than they need. As a superuser, in a database of fleetops' own:
--   createdb fleetops && psql --single-transaction --file roles.sql fleetops
-- Each is given a password, or a client certificate, by whoever keeps those; here none has any.

CREATE ROLE fleetops_owner LOGIN;      -- `fleetops database`: makes and upgrades the tables, and is used for nothing else
CREATE ROLE fleetops_worker LOGIN;     -- `fleetops worker`
CREATE ROLE fleetops_operator LOGIN;   -- `fleetops run --cluster`, `resume`, `pause`, `abort`, `rate`, `reconcile`
CREATE ROLE fleetops_reader LOGIN;     -- `fleetops runs`, `status`, `report`

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO fleetops_owner;
GRANT USAGE ON SCHEMA public TO fleetops_worker, fleetops_operator, fleetops_reader;

-- What the owner makes from now on is the others' to use: nobody but the owner changes a table's shape, and nobody but
-- whoever deletes a run as the owner removes what was recorded of one.
ALTER DEFAULT PRIVILEGES FOR ROLE fleetops_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO fleetops_worker, fleetops_operator;
ALTER DEFAULT PRIVILEGES FOR ROLE fleetops_owner IN SCHEMA public
    GRANT USAGE ON SEQUENCES TO fleetops_worker, fleetops_operator;
ALTER DEFAULT PRIVILEGES FOR ROLE fleetops_owner IN SCHEMA public
    GRANT SELECT ON TABLES TO fleetops_reader;
