// Package docs holds the documentation for users, in Markdown, and the tests that keep it true: the commands of its tours
// run, its metrics and flags are those of the server, and its links lead somewhere.
package docs
