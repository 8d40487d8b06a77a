// Promflow counts the bytes that every IP address moves through a network interface.
package main

import (
	"os"

	"promflow/app"
)

func main() { os.Exit(app.Main(os.Args)) }
