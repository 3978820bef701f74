"""The local stack: the servers, and counterparts of the outside services, as processes of this machine."""
