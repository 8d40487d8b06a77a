package watch

// Names of interfaces on Windows, such as "Ethernet 2" or "vEthernet (Default Switch)", have up to IF_MAX_STRING_SIZE characters (ifdef.h),
// and none that ncpa.cpl refuses. Windows itself makes names with "*": as globs, they match themselves.
const (
	nameLen        = 256
	notInNames     = "/:\"<>|\t\n\v\f\r"
	notInNamesText = "slash, colon, quotation mark, angle bracket or bar"
)
