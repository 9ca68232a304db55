package edge

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/httpbody"
)

// Raw is a grpc-gateway marshaler that takes every body as the bytes that it is, whatever its content type says, and writes
// bodies of answers the same way.
type Raw struct{}

var _ runtime.Marshaler = Raw{}

// Payload is a body that was read already; Raw takes its bytes without copying them.
type Payload struct {
	*bytes.Reader
	data []byte
}

// NewPayload wraps data.
func NewPayload(data []byte) Payload { return Payload{bytes.NewReader(data), data} }

// Close does nothing.
func (Payload) Close() error { return nil }

// NewDecoder implements runtime.Marshaler.
func (m Raw) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		p, ok := r.(Payload)
		if !ok {
			data, err := io.ReadAll(r)
			if err != nil {
				return fmt.Errorf("read the body: %w", err)
			}
			p = NewPayload(data)
		}
		return m.Unmarshal(p.data, v)
	})
}

// Unmarshal implements runtime.Marshaler.
func (Raw) Unmarshal(data []byte, v any) error {
	body, ok := v.(**httpbody.HttpBody)
	if !ok {
		return fmt.Errorf("%T does not take raw bytes", v)
	}
	*body = &httpbody.HttpBody{Data: data}
	return nil
}

// NewEncoder implements runtime.Marshaler.
func (m Raw) NewEncoder(w io.Writer) runtime.Encoder {
	return runtime.EncoderFunc(func(v any) error {
		data, err := m.Marshal(v)
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
}

// Marshal implements runtime.Marshaler.
func (Raw) Marshal(v any) ([]byte, error) {
	body, ok := v.(*httpbody.HttpBody)
	if !ok {
		return nil, errors.New("only raw bytes can be answered here")
	}
	return body.GetData(), nil
}

// ContentType implements runtime.Marshaler: it is what the answer's body says.
func (Raw) ContentType(v any) string {
	if answer, ok := v.(interface{ GetBody() *httpbody.HttpBody }); ok {
		if t := answer.GetBody().GetContentType(); t != "" {
			return t
		}
	}
	return "application/octet-stream"
}
