module github.com/hookmesh/hookmesh/e2e

go 1.26.0
