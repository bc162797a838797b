pub(crate) async fn serve() -> anyhow::Result<()> {
    Ok(())
}
