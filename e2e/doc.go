// Package e2e holds black-box tests of hookmesh: whatever drives the built program from outside.
package e2e
