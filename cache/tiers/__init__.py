"""Where frames are kept: one file per kind of place, all behind `tier.Tier`."""
