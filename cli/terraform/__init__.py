"""READMEs of Terraform's modules and the table of costs, from the modules themselves and a dated table of prices."""
