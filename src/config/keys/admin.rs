use super::section;
use crate::{
    config::kinds::{FilePath, Label, NameKind, choice},
    spec::Role,
};

section! {
    TokenSection, "A token of the admin API: whoever shows it may do what its role says.",
    {
        name: NameKind, Required, example "ci",
            "Who it is: the author of the changes that are made with it.";
        file: FilePath, Required, example "ci.token",
            "The file with the token: 16 to 4,096 visible ASCII characters, such as those of \
             `openssl rand -base64 32`. Read again when it changes.";
        role: RoleKind, Required, example "operator",
            "`viewer` looks, `operator` changes too.";
    }
    planned {}
}

section! {
    UnixRoleSection, "What a user or the members of a group may do through a unix socket. Without either: anybody.",
    {
        user: Label, Absent("any"), example "deploy",
            "The name of a user (in /etc/passwd), or a number.";
        group: Label, Absent("any"), example "ops",
            "The name of a group (in /etc/group), or a number. Its members are those whose first group it is, and \
             those that /etc/group lists.";
        role: RoleKind, Required, example "operator",
            "`viewer` looks, `operator` changes too.";
    }
    planned {}
}

choice! { RoleKind -> Role { "viewer" => Role::Viewer, "operator" => Role::Operator } }
