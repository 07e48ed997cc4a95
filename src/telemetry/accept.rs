//! The text format that whoever asks for the metrics wants.

/// Whether an `Accept` header asks for OpenMetrics no less than for plain text.
pub(super) fn prefers_openmetrics(accept: &str) -> bool {
    let weight = |wanted: &str| {
        let of_it = accept.split(',').filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            parts.next().filter(|type_| *type_ == wanted)?;
            let weight = parts.find_map(|part| part.strip_prefix("q="));
            Some(weight.map_or(1.0, |text| text.parse().unwrap_or(0.0)))
        });
        of_it.fold(0.0_f64, f64::max)
    };
    let open = weight("application/openmetrics-text");
    open > 0.0 && open >= weight("text/plain")
}
