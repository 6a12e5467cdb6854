"""The exported folder: certificates, policies, graphs and where the files come from."""
