package telemetry

import (
	"fmt"
	"math"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"
)

// rateSampler records so many new traces per second. In quiet times that is every trace; in a flood tracing stays cheap.
type rateSampler struct{ limit *rate.Limiter }

func newRateSampler(perSecond float64) sdktrace.Sampler {
	if perSecond < 0 {
		return sdktrace.AlwaysSample()
	}
	return rateSampler{rate.NewLimiter(rate.Limit(perSecond), int(math.Ceil(perSecond)))}
}

// ShouldSample implements sdktrace.Sampler.
func (s rateSampler) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	decision := sdktrace.Drop
	if s.limit.Allow() {
		decision = sdktrace.RecordAndSample
	}
	return sdktrace.SamplingResult{Decision: decision, Tracestate: trace.SpanContextFromContext(p.ParentContext).TraceState()}
}

// Description implements sdktrace.Sampler.
func (s rateSampler) Description() string {
	return fmt.Sprintf("RateLimited{%g/s}", float64(s.limit.Limit()))
}
