"""A real Kamailio as PBX, and sipp as phone and caller."""
