// Package top shows the top talkers: on a terminal until the user quits, or as text. It shows a [talkers.Report] from any source.
//
// Model is the state of the view, without a terminal. Show draws it on one, and Print writes text.
package top
