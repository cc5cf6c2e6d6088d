// A small Thanos: its own query API and engine over its own store of a Prometheus,
// which are what `thanos query` and `thanos sidecar` are made of, in one process.
// The whole command has the clients of every cloud's object store in it, and takes
// nearly twice as long to build. tests/run builds this inside Thanos's source.
//
// Usage: query PROMETHEUS-URL; says the address that it answers on.
package main

import (
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/go-kit/log"
	"github.com/opentracing/opentracing-go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/route"
	"github.com/prometheus/prometheus/model/labels"

	v1 "github.com/thanos-io/thanos/pkg/api/query"
	"github.com/thanos-io/thanos/pkg/component"
	"github.com/thanos-io/thanos/pkg/dedup"
	"github.com/thanos-io/thanos/pkg/exemplars"
	extpromhttp "github.com/thanos-io/thanos/pkg/extprom/http"
	"github.com/thanos-io/thanos/pkg/gate"
	"github.com/thanos-io/thanos/pkg/logging"
	"github.com/thanos-io/thanos/pkg/metadata"
	"github.com/thanos-io/thanos/pkg/promclient"
	"github.com/thanos-io/thanos/pkg/query"
	"github.com/thanos-io/thanos/pkg/rules"
	"github.com/thanos-io/thanos/pkg/status"
	"github.com/thanos-io/thanos/pkg/store"
	"github.com/thanos-io/thanos/pkg/targets"
	"github.com/thanos-io/thanos/pkg/tenancy"
)

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

func main() {
	logger := log.NewLogfmtLogger(os.Stderr)
	registry := prometheus.NewRegistry()
	base := must(url.Parse(os.Args[1]))
	client := promclient.NewDefaultClient()
	external := labels.FromStrings("replica", "a", "region", "test")
	prom := must(store.NewPrometheusStore(logger, registry, client, base, component.Sidecar,
		func() labels.Labels { return external },
		func() (int64, int64) { return math.MinInt64, math.MaxInt64 },
		func() string { return "2.42.0" },
	))
	lookback := 5 * time.Minute
	replicas := []string{"replica"}
	api := v1.NewQueryAPI(
		logger,
		func() []query.EndpointStatus { return nil },
		v1.NewQueryFactory(registry, logger, time.Minute, lookback, time.Minute, false, nil, v1.PromqlQueryModeLocal, false),
		v1.PromqlEnginePrometheus,
		func(int64) time.Duration { return lookback },
		query.NewQueryableCreator(logger, registry, prom, 4, time.Minute, dedup.AlgorithmPenalty),
		query.NewRemoteEndpointsCreator(logger, func() []query.Client { return nil }, nil, time.Minute, false, false),
		rules.UnaryClient(nil), targets.UnaryClient(nil), metadata.UnaryClient(nil), exemplars.UnaryClient(nil), status.UnaryClient(nil),
		false, true, true, true, true, true, true,
		replicas, nil, time.Second, 0, 0, true,
		gate.New(registry, 4, gate.Queries), nil, registry,
		tenancy.DefaultTenantHeader, tenancy.DefaultTenant, "", false, tenancy.DefaultTenantLabel, nil,
	)
	router := route.New()
	metrics := extpromhttp.NewInstrumentationMiddleware(registry, nil)
	api.Register(router.WithPrefix("/api/v1"), opentracing.NoopTracer{}, logger, metrics, logging.NewHTTPServerMiddleware(logger))
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	fmt.Println(listener.Addr())
	must(0, http.Serve(listener, router))
}
