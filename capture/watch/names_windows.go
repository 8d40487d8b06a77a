package watch

// What the name of an interface may be on Windows, such as "Ethernet 2" or "vEthernet (Default Switch)": up to IF_MAX_STRING_SIZE
// characters (ifdef.h), and none that ncpa.cpl refuses. That has a "*" in names of its own, which is a glob that matches itself.
const (
	nameLen        = 256
	notInNames     = "/:\"<>|\t\n\v\f\r"
	notInNamesText = "slash, colon, quotation mark, angle bracket or bar"
)
