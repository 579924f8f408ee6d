"""How deltas reach a client: numbered records, one numbering for every way they may travel."""
