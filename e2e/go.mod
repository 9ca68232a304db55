module github.com/hookmesh/hookmesh/e2e

go 1.26.0

require (
	github.com/hookmesh/hookmesh/gen v0.0.0
	github.com/hookmesh/hookmesh/services v0.0.0
)

replace (
	github.com/hookmesh/hookmesh/gen => ../gen
	github.com/hookmesh/hookmesh/services => ../services
)
