"""The platform on one machine: processes under supervisord that listen on the loopback interface only."""
