use super::{
    listener::{CertificateSection, TlsVersionKind},
    section,
};
use crate::{
    config::kinds::{Bytes, Count, FilePath, Label, ListOf, NameKind, choice},
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
            "`viewer` looks, `operator` changes too, `approver` also approves what waits for one.";
    }
}

section! {
    AdminTls, "How the admin API speaks TLS. The files that are named here are read again when they change.",
    {
        certificates: ListOf<CertificateSection, 1>, Required, example "[{ cert: admin.crt, key: admin.key }]",
            "Chosen by the name that the client asks for (SNI), the first if there is none for it.";
        min_version: TlsVersionKind, Default("\"1.2\""), example "\"1.3\"",
            "The oldest version of TLS that is spoken. The newest is 1.3.";
    }
}

section! {
    ClientRoleSection, "What whoever shows a certificate with this name may do. Without a name: any certificate.",
    {
        name: Label, Absent("any"), example "deploy",
            "The common name of the certificate, or one of its alternative names (DNS name, URI, mail address).";
        role: RoleKind, Required, example "operator",
            "`viewer` looks, `operator` changes too, `approver` also approves what waits for one.";
    }
}

section! {
    AuditSection, "The file of the audit log: who changed what, who tried to, and who was not let in.",
    {
        file: FilePath, Required, example "audit.log",
            "Where it is written, a JSON object a line. It is for crossfade's user alone, and begun anew when somebody \
             moves it away.";
        max_size: Bytes<{ 64 << 10 }, { 1 << 40 }>, Default("10MiB"), example "100MiB",
            "A larger one is moved away: `audit.log` becomes `audit.log.1`, that `audit.log.2` and so on.";
        keep: Count<0, 1000>, Default("5"), example "20",
            "So many of those are kept.";
    }
}

section! {
    AdminLimitsSection, "How much may be asked of the admin API.",
    {
        connections: Count<1, 1_000_000>, Default("512"), example "64",
            "Open connections; further ones wait to be accepted.";
        connections_each: Count<1, 1_000_000>, Default("256"), example "16",
            "Of those, so many of one client: one address (IPv6: one /64), or one user of a unix socket. Further ones of it              are closed, so that it cannot take all.";
    }
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
            "`viewer` looks, `operator` changes too, `approver` also approves what waits for one.";
    }
}

choice! {
    RoleKind -> Role {
        "viewer" => Role::Viewer,
        "operator" => Role::Operator,
        "approver" => Role::Approver,
    }
}
