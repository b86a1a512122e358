//! What a run leaves for people and other tools: pages, tables, files of other tools' formats.

pub mod csv;
pub mod html;
pub mod markdown;
pub mod summary;
pub mod svg;
pub mod vllm;
/// stub
pub fn write(_run: &crate::run::RunDir) -> Result<String, crate::files::Error> {
    todo!()
}
