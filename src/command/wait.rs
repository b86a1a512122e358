//! stub
/// stub
#[derive(Debug, clap::Args)]
pub struct Args {}
/// stub
pub async fn run(_args: Args, _shell: &super::Shell) -> anyhow::Result<crate::exit::Exit> {
    todo!()
}
