pub(crate) async fn run(_o: crate::args::BenchRemoteOptions) -> anyhow::Result<()> {
    Ok(())
}
