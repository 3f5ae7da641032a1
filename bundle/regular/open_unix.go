//go:build unix

package regular

import "syscall"

// noWait keeps opening a pipe from waiting for its writer, and a terminal from
// becoming ours.
const noWait = syscall.O_NONBLOCK | syscall.O_NOCTTY
