// Package bench measures the built program beside a baseline in the same run: `make bench`.
package bench
