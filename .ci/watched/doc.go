// Package watched runs programs that watch a link, and tells what they take: promflow, other tools and collectors, for the soak and the
// benchmark.
package watched
