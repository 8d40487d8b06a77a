// Package top shows who moves how much right now: on a terminal, until the user leaves, or as text. What is shown is a
// [talkers.Report], whoever gives it.
//
// Model is what is seen, without a terminal; Show puts it on one, Print writes text.
package top
