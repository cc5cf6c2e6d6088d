//! Every metric and label name that serin shows the world, in one place.

pub const REQUESTS_TOTAL: &str = "serin_requests_total";
pub const RESPONSES_TOTAL: &str = "serin_responses_total";
pub const REQUESTS_IN_FLIGHT: &str = "serin_requests_in_flight";
pub const RETRIES_TOTAL: &str = "serin_retries_total";
pub const RETRY_SUCCESS_TOTAL: &str = "serin_retry_success_total";
pub const RETRY_LIMIT_EXCEEDED_TOTAL: &str = "serin_retry_limit_exceeded_total";
pub const RETRY_OVERFLOW_TOTAL: &str = "serin_retry_overflow_total";
pub const UPSTREAM_ATTEMPTS_TOTAL: &str = "serin_upstream_attempts_total";
pub const CIRCUIT_BREAKER_USED: &str = "serin_circuit_breaker_used";
pub const CIRCUIT_BREAKER_OPEN: &str = "serin_circuit_breaker_open";
pub const SHIELDED_TOTAL: &str = "serin_shielded_total";
pub const MIRRORED_TOTAL: &str = "serin_mirrored_total";
pub const MIRROR_DROPPED_TOTAL: &str = "serin_mirror_dropped_total";
pub const ANSWERS_SAMPLED_TOTAL: &str = "serin_answers_sampled_total";
pub const ANSWERS_COMPARED: &str = "serin_answers_compared";
pub const ANSWERS_DIFFERING: &str = "serin_answers_differing";
pub const BYTES_TOTAL: &str = "serin_bytes_total";
pub const REQUEST_DURATION_SECONDS: &str = "serin_request_duration_seconds";
pub const WEIGHT_PERCENT: &str = "serin_weight_percent";
pub const ROLLOUT_PHASE: &str = "serin_rollout_phase";
pub const ROLLOUT_EVIDENCE: &str = "serin_rollout_evidence";
pub const ROLLOUT_METER: &str = "serin_rollout_meter";
pub const ROLLOUT_REQUESTS_NEEDED: &str = "serin_rollout_requests_needed";
pub const ENDPOINT_HEALTHY: &str = "serin_endpoint_healthy";
pub const ATTEMPTS_TOTAL: &str = "serin_attempts_total";
pub const HEALTH_CHECKS_TOTAL: &str = "serin_health_checks_total";
pub const OUTLIERS_TOTAL: &str = "serin_outliers_total";
pub const PANIC: &str = "serin_panic";
pub const PANIC_TOTAL: &str = "serin_panic_total";
pub const FALLBACK_TOTAL: &str = "serin_fallback_total";
pub const OVERLOAD_STAGE: &str = "serin_overload_stage";
pub const OVERLOAD_REFUSED_TOTAL: &str = "serin_overload_refused_total";
pub const CONNECTIONS: &str = "serin_connections";
pub const RATE_LIMITED_TOTAL: &str = "serin_rate_limited_requests_total";
pub const FAULTS_INJECTED_TOTAL: &str = "serin_faults_injected_total";
pub const HTTP2_FLOODS_TOTAL: &str = "serin_http2_floods_total";
pub const UNROUTED_REQUESTS_TOTAL: &str = "serin_unrouted_requests_total";
pub const CERTIFICATE_EXPIRY_TIMESTAMP_SECONDS: &str = "serin_certificate_expiry_timestamp_seconds";
pub const TLS_HANDSHAKES_TOTAL: &str = "serin_tls_handshakes_total";
pub const CONFIG_RELOADS_TOTAL: &str = "serin_config_reloads_total";
pub const JOURNAL_WRITABLE: &str = "serin_journal_writable";
pub const ENDPOINTS: &str = "serin_endpoints";
pub const ENDPOINT_CHANGES_TOTAL: &str = "serin_endpoint_changes_total";
pub const DNS_RESOLUTIONS_TOTAL: &str = "serin_dns_resolutions_total";
pub const DNS_UNRESOLVED_NAMES: &str = "serin_dns_unresolved_names";
pub const LETTERS_TOTAL: &str = "serin_letters_total";
pub const LETTERS_WAITING: &str = "serin_letters_waiting";
pub const LETTER_RETRIES_TOTAL: &str = "serin_letter_retries_total";
pub const LETTER_DURATION_SECONDS: &str = "serin_letter_duration_seconds";
pub const DEAD_LETTERS: &str = "serin_dead_letters";
pub const BUILD_INFO: &str = "serin_build_info";

/// The names that Prometheus client libraries agree on for the process itself.
pub const PROCESS_RESIDENT_MEMORY_BYTES: &str = "process_resident_memory_bytes";
pub const PROCESS_CPU_SECONDS_TOTAL: &str = "process_cpu_seconds_total";
pub const PROCESS_OPEN_FDS: &str = "process_open_fds";
pub const PROCESS_START_TIME_SECONDS: &str = "process_start_time_seconds";

pub mod label {
    pub const SERVICE: &str = "service";
    pub const VERSION: &str = "version";
    pub const ROLE: &str = "role";
    pub const OUTCOME: &str = "outcome";
    pub const CLASS: &str = "class";
    pub const DIRECTION: &str = "direction";
    pub const SPLIT: &str = "split";
    pub const ROLLOUT: &str = "rollout";
    pub const PHASE: &str = "phase";
    pub const TEST: &str = "test";
    pub const METER: &str = "meter";
    pub const HEALTH: &str = "health";
    pub const RESULT: &str = "result";
    pub const PLACE: &str = "place";
    pub const PART: &str = "part";
    pub const SUBJECT: &str = "subject";
    pub const SERIAL: &str = "serial";
    pub const CAUSE: &str = "cause";
    pub const ENDPOINT: &str = "endpoint";
    pub const RECEIVER: &str = "receiver";
    pub const WHAT: &str = "what";
    pub const BREAKER: &str = "breaker";
}

/// What the `role` label says of mirrored copies.
pub const ROLE_SHADOW: &str = "shadow";
/// And of requests that serin has sent by itself.
pub const ROLE_LOAD: &str = "load";
/// The `class` label by index of `Counts::classes`.
pub const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The names that other proxies and libraries give to what we count, too.
pub mod foreign {
    pub const ISTIO_REQUESTS_TOTAL: &str = "istio_requests_total";
    pub const ISTIO_REQUEST_DURATION_MILLISECONDS: &str = "istio_request_duration_milliseconds";
    pub const ENVOY_CLUSTER_UPSTREAM_RQ: &str = "envoy_cluster_upstream_rq";
    pub const ENVOY_CLUSTER_UPSTREAM_RQ_XX: &str = "envoy_cluster_upstream_rq_xx";
    pub const ENVOY_CLUSTER_UPSTREAM_RQ_TIME: &str = "envoy_cluster_upstream_rq_time";
    pub const ENVOY_CLUSTER_UPSTREAM_RQ_COMPLETED: &str = "envoy_cluster_upstream_rq_completed";
    pub const ENVOY_CLUSTER_UPSTREAM_RQ_TOTAL: &str = "envoy_cluster_upstream_rq_total";
    pub const ENVOY_CLUSTER_UPSTREAM_RQ_ACTIVE: &str = "envoy_cluster_upstream_rq_active";
    pub const ENVOY_CLUSTER_UPSTREAM_RQ_TIMEOUT: &str = "envoy_cluster_upstream_rq_timeout";
    pub const ENVOY_CLUSTER_UPSTREAM_RQ_PER_TRY_TIMEOUT: &str = "envoy_cluster_upstream_rq_per_try_timeout";
    pub const ENVOY_CLUSTER_UPSTREAM_RQ_RX_RESET: &str = "envoy_cluster_upstream_rq_rx_reset";
    pub const ENVOY_CLUSTER_UPSTREAM_RQ_PENDING_OVERFLOW: &str = "envoy_cluster_upstream_rq_pending_overflow";
    pub const ENVOY_CLUSTER_UPSTREAM_CX_CONNECT_FAIL: &str = "envoy_cluster_upstream_cx_connect_fail";
    pub const ENVOY_CLUSTER_UPSTREAM_RQ_RETRY: &str = "envoy_cluster_upstream_rq_retry";
    pub const ENVOY_CLUSTER_UPSTREAM_RQ_RETRY_SUCCESS: &str = "envoy_cluster_upstream_rq_retry_success";
    pub const ENVOY_CLUSTER_UPSTREAM_RQ_RETRY_LIMIT_EXCEEDED: &str =
        "envoy_cluster_upstream_rq_retry_limit_exceeded";
    pub const ENVOY_CLUSTER_UPSTREAM_RQ_RETRY_OVERFLOW: &str = "envoy_cluster_upstream_rq_retry_overflow";
    pub const ENVOY_CLUSTER_CIRCUIT_BREAKERS_DEFAULT_CX_OPEN: &str =
        "envoy_cluster_circuit_breakers_default_cx_open";
    pub const ENVOY_CLUSTER_CIRCUIT_BREAKERS_DEFAULT_RQ_PENDING_OPEN: &str =
        "envoy_cluster_circuit_breakers_default_rq_pending_open";
    pub const ENVOY_CLUSTER_CIRCUIT_BREAKERS_DEFAULT_RQ_OPEN: &str =
        "envoy_cluster_circuit_breakers_default_rq_open";
    pub const ENVOY_CLUSTER_CIRCUIT_BREAKERS_DEFAULT_RQ_RETRY_OPEN: &str =
        "envoy_cluster_circuit_breakers_default_rq_retry_open";
    pub const ENVOY_CLUSTER_MEMBERSHIP_TOTAL: &str = "envoy_cluster_membership_total";
    pub const ENVOY_CLUSTER_MEMBERSHIP_HEALTHY: &str = "envoy_cluster_membership_healthy";
    pub const HTTP_REQUEST_DURATION_SECONDS: &str = "http_request_duration_seconds";
    pub const NGINX_INGRESS_CONTROLLER_REQUESTS: &str = "nginx_ingress_controller_requests";
    pub const NGINX_INGRESS_CONTROLLER_RESPONSE_DURATION_SECONDS: &str =
        "nginx_ingress_controller_response_duration_seconds";
    pub const OSM_REQUEST_TOTAL: &str = "osm_request_total";
    pub const OSM_REQUEST_DURATION_MS: &str = "osm_request_duration_ms";
    pub const RESPONSE_TOTAL: &str = "response_total";
    pub const RESPONSE_LATENCY_MS: &str = "response_latency_ms";
    pub const TRAEFIK_SERVICE_REQUEST_DURATION_SECONDS: &str = "traefik_service_request_duration_seconds";
}
