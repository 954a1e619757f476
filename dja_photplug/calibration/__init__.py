"""a(r): the scatter of empty apertures over what the weight says, by depth."""
