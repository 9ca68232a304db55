module github.com/hookmesh/hookmesh/e2e

go 1.26.0

replace github.com/hookmesh/hookmesh/gen => ../gen
