"""The `sluice` command. One file per sub-command; what it needs is imported when it runs."""
