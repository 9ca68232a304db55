// Package scenarios holds failures from the field, each with the ending that hookmesh promises, run against the built program:
// `make scenarios` prints them as a table. A simulated wiki is the source; time is scaled where a scenario says so.
package scenarios
