//go:build charts

// Package tools pins what the tests use and do not link: programs, by the tool
// directives of go.mod, and the source of charts, by the imports of this file.
// Nothing here is ever built.
package tools

// The chart lies in the module under deploy/charts/cert-manager. The package
// imported is an empty one; it keeps the requirement through go mod tidy.
import _ "github.com/cert-manager/cert-manager/pkg/apis"
