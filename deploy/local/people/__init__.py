"""Who and what there is on the local stack: units, staff and residents, the same to every counterpart."""
