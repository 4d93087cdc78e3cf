#!/bin/bash
# Databases and user of Kubeflow Pipelines. ML Metadata's client knows the plugin mysql_native_password alone.
set -eu
folder=${SECRETS:-/etc/phaseflow}
MYSQL_PWD=$(cat "$folder/administrator/password")
export MYSQL_PWD
mysql --host "$HOST" --port "$PORT" --user "$(cat "$folder/administrator/username")" <<SQL
CREATE DATABASE IF NOT EXISTS mlpipeline;
CREATE DATABASE IF NOT EXISTS metadb;
CREATE USER IF NOT EXISTS 'kfp'@'%';
ALTER USER 'kfp'@'%' IDENTIFIED WITH mysql_native_password BY '$(cat "$folder/user/password")';
GRANT ALL ON mlpipeline.* TO 'kfp'@'%';
GRANT ALL ON metadb.* TO 'kfp'@'%';
SQL
echo "mlpipeline and metadb are ready"
