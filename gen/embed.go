// Package gen holds the generated API of hookmesh: Go types, gRPC clients and servers, grpc-gateway, OpenAPI.
// Clients import the packages below it and nothing else.
package gen

import _ "embed"

// OpenAPI describes the JSON API (OpenAPI 2.0), generated from the proto files.
//
//go:embed openapi/hookmesh.swagger.json
var OpenAPI []byte
