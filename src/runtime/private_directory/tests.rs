//! Tests of private directories.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};

use super::*;

/// A directory with mode 0700 below the system's temporary directory.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        set_mode(directory.path(), 0o700);
        Self(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn directory(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        set_mode(&path, mode);
        path
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn refusal(path: &Path) -> String {
    let error = PrivateDirectory::open(path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    error.to_string()
}

/// Gives the file or link to another user. `false` if this user is not root.
fn give_away(path: &Path) -> bool {
    lchown(path, Some(65534), Some(65534)).is_ok()
}

#[test]
fn missing_directories_are_created_and_closed_to_other_users() {
    let place = Place::new();
    let path = place.path("a/b");
    PrivateDirectory::open(&path).unwrap();
    for path in [place.path("a"), path] {
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}

#[test]
fn a_directory_that_other_users_can_enter_is_refused() {
    let place = Place::new();
    for mode in [0o755, 0o770, 0o777, 0o1777, 0o701] {
        let path = place.directory("code", mode);
        assert!(refusal(&path).contains("must belong to this program's user and have mode 0700"));
    }
}

#[test]
fn a_parent_that_other_users_can_write_is_refused_unless_it_is_sticky() {
    let place = Place::new();
    place.directory("parent/middle/code", 0o700);
    let code = place.path("parent/middle/code");
    set_mode(&place.path("parent/middle"), 0o755);
    // The mode of an `emptyDir`, without and with `fsGroup`, and a group that may write.
    for mode in [0o777, 0o2777, 0o775, 0o757] {
        set_mode(&place.path("parent"), mode);
        let message = refusal(&code);
        assert!(
            message.contains("other users can replace files in") && message.contains("parent`"),
            "{message}"
        );
    }
    for mode in [0o1777, 0o1775, 0o755, 0o711, 0o700] {
        set_mode(&place.path("parent"), mode);
        PrivateDirectory::open(&code).unwrap();
    }
}

#[test]
fn a_missing_directory_below_an_unsafe_parent_is_created_private_and_refused() {
    let place = Place::new();
    let parent = place.directory("parent", 0o777);
    assert!(refusal(&parent.join("a/code")).contains("parent`"));
    let mode = fs::metadata(parent.join("a/code"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_parent_of_another_user_is_refused() {
    let place = Place::new();
    place.directory("parent/code", 0o700);
    set_mode(&place.path("parent"), 0o755);
    if !give_away(&place.path("parent")) {
        return;
    }
    let message = refusal(&place.path("parent/code"));
    assert!(message.contains("belongs to the user 65534"), "{message}");
}

#[test]
fn links_are_followed_and_their_targets_are_checked() {
    let place = Place::new();
    place.directory("real/code", 0o700);
    symlink("real", place.path("relative")).unwrap();
    symlink(place.path("real"), place.path("absolute")).unwrap();
    symlink("../real/../relative", place.path("real/up")).unwrap();
    for link in ["relative", "absolute", "real/up", "./real/../real"] {
        PrivateDirectory::open(&place.path(link).join("code")).unwrap();
    }
    set_mode(&place.path("real"), 0o777);
    for link in ["relative", "absolute"] {
        assert!(refusal(&place.path(link).join("code")).contains("real`"));
    }
}

/// A link in a sticky directory can lead to a private directory of this user with other contents.
#[test]
fn a_link_of_another_user_is_refused() {
    let place = Place::new();
    let target = place.directory("code", 0o700);
    let sticky = place.directory("sticky", 0o1777);
    symlink(target, sticky.join("link")).unwrap();
    PrivateDirectory::open(&sticky.join("link")).unwrap();
    if give_away(&sticky.join("link")) {
        assert!(refusal(&sticky.join("link")).contains("belongs to the user 65534"));
    }
}

#[test]
fn a_loop_of_links_and_a_file_in_the_path_are_errors() {
    let place = Place::new();
    symlink("b", place.path("a")).unwrap();
    symlink("a", place.path("b")).unwrap();
    assert!(PrivateDirectory::open(&place.path("a")).is_err());
    fs::write(place.path("file"), "").unwrap();
    let error = PrivateDirectory::open(&place.path("file/code")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotADirectory);
}

#[test]
fn a_directory_that_is_put_in_its_place_later_has_no_effect() {
    let place = Place::new();
    let path = place.directory("code", 0o700);
    let directory = PrivateDirectory::open(&path).unwrap();
    let file = directory.temporary_file().unwrap();
    file.file().write_all(b"own").unwrap();
    file.rename("x").unwrap();
    fs::rename(&path, place.path("old")).unwrap();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("x"), "planted").unwrap();
    let file = directory.open_file("x").unwrap().unwrap();
    assert_eq!(io::read_to_string(file).unwrap(), "own");
    directory.temporary_file().unwrap().rename("y").unwrap();
    assert!(place.path("old/y").exists() && !path.join("y").exists());
}

#[test]
fn a_subdirectory_that_other_users_can_enter_or_that_is_a_link_is_refused() {
    let place = Place::new();
    let directory = PrivateDirectory::open(&place.path("code")).unwrap();
    directory.subdirectory("new").unwrap();
    place.directory("code/open", 0o755);
    assert!(directory.subdirectory("open").is_err());
    symlink("new", place.path("code/link")).unwrap();
    assert!(directory.subdirectory("link").is_err());
}

#[test]
fn only_own_regular_files_with_one_name_are_opened() {
    let place = Place::new();
    let directory = PrivateDirectory::open(place.0.path()).unwrap();
    assert!(directory.open_file("missing").unwrap().is_none());
    let file = place.path("file");
    fs::write(&file, "x").unwrap();
    for mode in [0o666, 0o620, 0o602] {
        set_mode(&file, mode);
        directory.open_file("file").unwrap_err();
    }
    set_mode(&file, 0o600);
    directory.open_file("file").unwrap().unwrap();
    symlink("file", place.path("link")).unwrap();
    directory.open_file("link").unwrap_err();
    fs::create_dir(place.path("directory")).unwrap();
    directory.open_file("directory").unwrap_err();
    rustix::fs::mkfifoat(rustix::fs::CWD, place.path("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
    directory.open_file("fifo").unwrap_err();
    fs::hard_link(&file, place.path("second")).unwrap();
    directory.open_file("file").unwrap_err();
    fs::remove_file(place.path("second")).unwrap();
    if give_away(&file) {
        directory.open_file("file").unwrap_err();
    }
}

#[test]
fn temporary_files_are_removed_unless_they_are_renamed() {
    let place = Place::new();
    let directory = PrivateDirectory::open(place.0.path()).unwrap();
    let first = directory.temporary_file().unwrap();
    let second = directory.temporary_file().unwrap();
    assert_eq!(fs::read_dir(place.0.path()).unwrap().count(), 2);
    drop(first);
    second.rename("kept").unwrap();
    assert_eq!(fs::read_dir(place.0.path()).unwrap().count(), 1);
}

#[test]
fn only_old_temporary_files_are_removed_as_stale() {
    let place = Place::new();
    let directory = PrivateDirectory::open(place.0.path()).unwrap();
    let old = SystemTime::now() - STALE * 2;
    for (name, time) in [
        (".tmp-1-1", old),
        (".tmpAbCdEf", old),
        (".tmp-1-2", SystemTime::now()),
        ("code", old),
    ] {
        let file = File::create(place.path(name)).unwrap();
        file.set_modified(time).unwrap();
    }
    directory.remove_stale_files().unwrap();
    let names = fs::read_dir(place.0.path()).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".tmp-1-2", "code"]);
}
