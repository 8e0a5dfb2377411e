"""SpIEL table 1, last column: adapters trained apart and added."""
