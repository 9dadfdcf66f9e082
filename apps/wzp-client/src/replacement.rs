//! A file that takes the place of another one, once there is something in it.
//!
//! Until [`Replacement::keep`] it stands beside the file that is there, under a name of its own, and is removed when
//! nothing comes of it. What is no regular file, as a terminal or a pipe, is written itself.

use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// A file in the making.
#[derive(Debug)]
pub(crate) struct Replacement {
    target: PathBuf,
    /// Beside the target, until it is kept.
    draft: Option<PathBuf>,
}

impl Replacement {
    /// Makes an empty file for what is to stand at `path`.
    ///
    /// # Errors
    /// When the file that is there cannot be written, or no other can be made beside it.
    pub(crate) fn begin(path: &Path) -> io::Result<Self> {
        // Behind a link it is the file itself that is replaced.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let permissions = match fs::metadata(&target) {
            Ok(is) if is.is_file() => {
                // Nothing is replaced that could not be written.
                OpenOptions::new().write(true).open(&target)?;
                Some(is.permissions())
            }
            Ok(is) if is.is_dir() => return Err(ErrorKind::IsADirectory.into()),
            Ok(_) => return Ok(Self { target, draft: None }),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let name = target
            .file_name()
            .ok_or(ErrorKind::IsADirectory)?
            .to_string_lossy();
        let draft = target.with_file_name(format!(".{name}.{}.part", std::process::id()));
        // Whoever had our number before us did not end well.
        let _ = fs::remove_file(&draft);
        let file = OpenOptions::new().write(true).create_new(true).open(&draft)?;
        let replacement = Self {
            target,
            draft: Some(draft),
        };
        if let Some(permissions) = permissions {
            file.set_permissions(permissions)?;
        }
        Ok(replacement)
    }

    /// Where to write.
    pub(crate) fn path(&self) -> &Path {
        self.draft.as_deref().unwrap_or(&self.target)
    }

    /// Takes the place of what is there; what is open stays open and can be written on.
    ///
    /// # Errors
    /// When the system refuses; then everything is as before.
    pub(crate) fn keep(&mut self) -> io::Result<()> {
        if let Some(draft) = &self.draft {
            fs::rename(draft, &self.target)?;
            self.draft = None;
        }
        Ok(())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Some(draft) = &self.draft {
            let _ = fs::remove_file(draft);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    /// A folder of the test's own, removed at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("wzp-client-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<_> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn nothing_is_lost_or_left_unless_it_is_kept() {
        let folder = Folder::new("draft");
        let file = folder.0.join("old");
        fs::write(&file, "old").unwrap();
        let draft = Replacement::begin(&file).unwrap();
        fs::write(draft.path(), "new").unwrap();
        drop(draft);
        drop(Replacement::begin(&folder.0.join("none")).unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
        assert_eq!(folder.names(), ["old"]);
    }

    #[test]
    fn what_is_kept_takes_the_place_the_rights_and_the_link_of_the_other() {
        let folder = Folder::new("kept");
        let (file, link) = (folder.0.join("old"), folder.0.join("link"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        symlink("old", &link).unwrap();
        let mut draft = Replacement::begin(&link).unwrap();
        fs::write(draft.path(), "new").unwrap();
        draft.keep().unwrap();
        drop(draft);
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(folder.names(), ["link", "old"]);
    }

    #[test]
    fn what_cannot_be_written_is_told_at_once_and_a_device_is_written_itself() {
        let folder = Folder::new("refused");
        assert!(Replacement::begin(&folder.0).is_err());
        assert!(Replacement::begin(&folder.0.join("no/file")).is_err());
        let null = Path::new("/dev/null");
        let mut device = Replacement::begin(null).unwrap();
        assert_eq!(device.path(), null);
        device.keep().unwrap();
        drop(device);
        assert!(null.exists());
    }
}
