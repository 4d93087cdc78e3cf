#!/bin/bash
# Roles and databases of Airflow and MLflow, and the role that backs them up. Again: passwords are set anew, nothing else changes.
set -eu
folder=${SECRETS:-/etc/phaseflow/secrets}
PGUSER=$(cat "$folder/admin_username")
PGPASSWORD=$(cat "$folder/admin_password")
export PGUSER PGPASSWORD PGSSLMODE="${PGSSLMODE:-require}" PGDATABASE=postgres
for part in airflow mlflow backup; do
    printf "\\\\set %s '%s'\n" "$part" "$(cat "$folder/$part")"
done >/tmp/passwords.sql
psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --output /dev/null <<'SQL'
\i /tmp/passwords.sql
SET client_min_messages = warning;
SELECT format('CREATE ROLE %I LOGIN', name) FROM unnest(ARRAY['airflow', 'mlflow', 'backup']) AS name
  WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE airflow PASSWORD :'airflow';
ALTER ROLE mlflow PASSWORD :'mlflow';
ALTER ROLE backup PASSWORD :'backup';
-- A cloud's administrator is no superuser: it makes a database only for a role that it is a member of.
GRANT airflow, mlflow TO CURRENT_USER;
GRANT pg_read_all_data TO backup;
SELECT format('CREATE DATABASE %I OWNER %I', name, name) FROM unnest(ARRAY['airflow', 'mlflow']) AS name
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name) \gexec
REVOKE ALL ON DATABASE airflow, mlflow FROM PUBLIC;
GRANT CONNECT ON DATABASE airflow, mlflow TO backup;
SQL
rm /tmp/passwords.sql
echo "airflow, mlflow and backup are ready"
