pub(crate) async fn run(_o: crate::args::BenchLocalOptions) -> anyhow::Result<()> {
    Ok(())
}
