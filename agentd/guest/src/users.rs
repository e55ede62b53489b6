//! The guest's users, as /etc/passwd and /etc/group have them: a static program cannot ask the guest's name service.

use std::fs;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
    pub shell: String,
}

/// A user by name or number, also as USER:GROUP; root where None.
pub fn find(wanted: Option<&str>) -> Result<User, String> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    look(wanted.unwrap_or("0"), &read("/etc/passwd"), &read("/etc/group"))
}

/// Its home, or / where it has none.
pub fn folder(user: &User) -> String {
    let there = fs::metadata(&user.home).is_ok_and(|meta| meta.is_dir());
    if there { user.home.clone() } else { "/".to_owned() }
}

fn look(wanted: &str, passwd: &str, group: &str) -> Result<User, String> {
    let (who, which) = wanted.split_once(':').map_or((wanted, None), |(who, which)| (who, Some(which)));
    let number = who.parse::<u32>().ok();
    let lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = lines.filter_map(|f| match f[..] {
        [name, _, uid, gid, _, home, shell] => {
            let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
            let user = User {
                name: name.to_owned(),
                uid,
                gid,
                groups: Vec::new(),
                home: if home.is_empty() { "/" } else { home }.to_owned(),
                shell: if shell.is_empty() { "/bin/sh" } else { shell }.to_owned(),
            };
            (name == who || Some(uid) == number).then_some(user)
        }
        _ => None,
    });
    let mut found: Vec<User> = found.collect();
    // A name before a number that reads the same.
    found.sort_by_key(|user| user.name != who);
    let mut user = match (found.into_iter().next(), number) {
        (Some(user), _) => user,
        (None, Some(uid)) => User {
            name: uid.to_string(),
            uid,
            gid: uid,
            groups: Vec::new(),
            home: "/".to_owned(),
            shell: "/bin/sh".to_owned(),
        },
        (None, None) => return Err(format!("there is no user '{who}'")),
    };
    let groups: Vec<(&str, u32, &str)> = group
        .lines()
        .filter_map(|line| match line.split(':').collect::<Vec<_>>()[..] {
            [name, _, gid, members] => Some((name, gid.parse().ok()?, members)),
            _ => None,
        })
        .collect();
    if let Some(which) = which {
        let by_name = groups.iter().find(|(name, ..)| *name == which).map(|(_, gid, _)| *gid);
        user.gid = by_name.or(which.parse().ok()).ok_or_else(|| format!("there is no group '{which}'"))?;
    }
    user.groups = vec![user.gid];
    let of = groups.iter().filter(|(_, _, members)| members.split(',').any(|m| m == user.name));
    user.groups.extend(of.map(|(_, gid, _)| *gid).filter(|gid| *gid != user.gid));
    Ok(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000:Me,,,:/home/me:/bin/bash\n7:x:8:8::/:\nbad\n";
    const GROUP: &str = "root:x:0:\nme:x:1000:\nadm:x:4:me,you\nsudo:x:27:me\n";

    #[test]
    fn users_are_found_by_name_and_number() {
        let look = |wanted| look(wanted, PASSWD, GROUP);
        let me = look("me").expect("there");
        assert_eq!((me.uid, me.gid, me.groups.clone()), (1000, 1000, vec![1000, 4, 27]));
        assert_eq!((me.home.as_str(), me.shell.as_str()), ("/home/me", "/bin/bash"));
        assert_eq!(look("1000"), Ok(me));
        assert_eq!(look("0").map(|u| u.name), Ok("root".to_owned()));
        assert_eq!(look("7").map(|u| u.uid), Ok(8), "a name goes before a number");
        assert_eq!(look("5").map(|u| (u.uid, u.home)), Ok((5, "/".to_owned())));
        assert_eq!(look("me:adm").map(|u| u.gid), Ok(4));
        assert_eq!(look("me:12").map(|u| u.gid), Ok(12));
        assert_eq!(look("nobody"), Err("there is no user 'nobody'".to_owned()));
        assert_eq!(look("me:none"), Err("there is no group 'none'".to_owned()));
    }
}
