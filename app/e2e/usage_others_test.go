//go:build !linux

package e2e

import "os"

func maxResident(*os.ProcessState) int64 { return 0 } // in other units, or unknown

func maxResidentHere() int64 { return 0 }
