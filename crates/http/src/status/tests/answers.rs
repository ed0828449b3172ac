//! The answers around the pages.

use super::*;

async fn asked(source: Source, format: Format) -> Response<Page> {
    answer(&Arc::new(Status::new(source)), Some("target=db2"), format).await
}

#[tokio::test]
async fn an_answer_is_not_kept_and_runs_nothing() {
    for (format, content_type) in
        [(Format::Html, "text/html; charset=utf-8"), (Format::Json, "application/json")]
    {
        let response = asked(Arc::new(|| Arc::new(mixed())), format).await;
        assert_eq!(response.status(), 200);
        let header = |name| response.headers()[name].to_str().unwrap();
        assert_eq!(header("content-type"), content_type);
        assert_eq!((header("cache-control"), header("x-content-type-options")), ("no-store", "nosniff"));
        assert!(header("content-security-policy").starts_with("default-src 'none'; "));
    }
}

#[tokio::test]
async fn a_defect_costs_one_answer() {
    let response = asked(Arc::new(|| panic!("as the test says")), Format::Html).await;
    assert_eq!(response.status(), 500);
}

#[tokio::test(start_paused = true)]
async fn who_comes_when_all_places_are_taken_is_told_to_come_again() {
    let status = Arc::new(Status::new(Arc::new(|| fleet(1))));
    let taken = Arc::clone(&status.builds).acquire_many_owned(BUILDS.try_into().unwrap()).await.unwrap();
    let response = answer(&status, None, Format::Html).await;
    assert_eq!(
        (response.status(), &response.headers()["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &HeaderValue::from_static("5"))
    );
    drop(taken);
    assert_eq!(answer(&status, None, Format::Html).await.status(), 200);
}
