//! The command line, and the one way from words to a configuration.

use super::Config;
use super::error::ConfigError;
use super::reader::{OptionText, Reader};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::ffi::OsString;
use std::fs;

/// What the operator wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the server.
    Run(Box<Config>),
    /// Say whether this machine can serve.
    Diagnose(Box<Config>),
    /// Say whether the server runs and is well.
    CheckHealth(Box<Config>),
    /// Print this and end well: `--help`, `--version`, `check-config`.
    Print(String),
}

const ABOUT: &str = "millrace takes live streams in by WHIP and hands them out by WHEP: what one \
publishes, many watch in a browser, a fraction of a second later.";

const AFTER_HELP: &str = "\
Every option of the configuration file is also a flag (--section.key VALUE) and a variable
(MILLRACE_SECTION__KEY). The file comes first, then variables, then flags. Lists are separated by
commas. Two variables have short names: MILLRACE_PUBLISH_TOKEN and MILLRACE_ADMIN_TOKEN.

  millrace --config configs/default.toml
  millrace --network.public_addresses 203.0.113.7 --log.level debug
  MILLRACE_NETWORK__HTTP_LISTEN=127.0.0.1:8080 millrace
  millrace check-config --config /etc/millrace.toml
  millrace doctor --config /etc/millrace/millrace.toml";

/// Reads the command line, the environment and the file they name.
///
/// `arguments` begins with the program's name. Nothing but the file is read from the system.
///
/// # Errors
///
/// [`ConfigError`] names every key and value that is wrong, and what would be right.
pub fn load(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Action, ConfigError> {
    let mut defaults = Reader::default();
    Config::read(&mut defaults);
    let options = defaults.finish()?;
    let matches = match command(&options).try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) if error.use_stderr() => return Err(ConfigError::Arguments(error.to_string())),
        Err(help) => return Ok(Action::Print(help.to_string())),
    };
    let (command, matches) = match matches.subcommand() {
        Some((command, inner)) => (command, inner),
        None => ("", &matches),
    };
    let config = Box::new(read(matches, &options, environment)?);
    Ok(match command {
        "check-config" => Action::Print("The configuration is fine.\n".to_owned()),
        "doctor" => Action::Diagnose(config),
        "healthcheck" => Action::CheckHealth(config),
        _ => Action::Run(config),
    })
}

/// File, then environment, then flags.
fn read(
    matches: &ArgMatches,
    options: &[OptionText],
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Config, ConfigError> {
    let mut reader = Reader::default();
    if let Some(path) = matches.get_one::<String>("config") {
        let text = fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        reader.add_file(&text, path)?;
    }
    for (name, value) in environment {
        // A name or value that is no UTF-8 shows its replacement characters in the error.
        reader.add_variable(&name.to_string_lossy(), &value.to_string_lossy());
    }
    for pair in matches.get_many::<String>("set").into_iter().flatten() {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            ConfigError::Arguments(format!("--set {pair} is not of the form section.key=value"))
        })?;
        reader.add_text(key, value, &format!("--set {key}"));
    }
    for option in options {
        if let Some(value) = matches.get_one::<String>(option.key) {
            reader.add_text(option.key, value, &format!("--{}", option.key));
        }
    }
    if let Some(value) = matches.get_one::<String>("shards") {
        reader.add_text("server.shards", value, "--shards");
    }
    let config = Config::read(&mut reader);
    reader.finish().map(|_| config)
}

/// What clap knows: three flags by hand, one per option, the commands.
fn command(options: &[OptionText]) -> Command {
    let by_hand = [
        Arg::new("config")
            .long("config")
            .short('c')
            .value_name("FILE")
            .help("The configuration, as TOML; configs/default.toml documents every option"),
        Arg::new("shards").long("shards").value_name("N").help("The same as --server.shards"),
        Arg::new("set")
            .long("set")
            .value_name("SECTION.KEY=VALUE")
            .action(ArgAction::Append)
            .help("Sets any option"),
    ];
    let generic = options.iter().map(|option| {
        Arg::new(option.key)
            .long(option.key)
            .value_name("VALUE")
            .help(format!("takes {} [default: {}]", option.takes, option.default))
            .help_heading("Options of the configuration")
            .hide_short_help(true)
            .allow_hyphen_values(true)
            .overrides_with(option.key)
    });
    let arguments: Vec<Arg> =
        by_hand.into_iter().chain(generic).map(|arg| arg.global(true)).collect();
    Command::new("millrace")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .after_help(AFTER_HELP)
        .args(arguments)
        .disable_help_subcommand(true)
        .subcommand(
            Command::new("check-config")
                .about("Reads the configuration, says what is wrong with it, and ends"),
        )
        .subcommand(Command::new("doctor").about(
            "Checks ports, addresses, buffers, limits, certificate and state, says what to do, and \
             ends; with status 1 where something must be mended",
        ))
        .subcommand(
            Command::new("healthcheck")
                .about("Asks the running server whether it is well; with status 1 where it is not"),
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::address::Listen;
    use crate::config::log::Level;
    use std::path::{Path, PathBuf};

    /// A configuration file that goes with the test.
    struct File(PathBuf);

    impl File {
        fn new(name: &str, text: &str) -> Self {
            let name = format!("millrace-arguments-{name}-{}.toml", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::write(&path, text).expect("the temporary directory is writable");
            Self(path)
        }

        fn text(&self) -> &str {
            self.0.to_str().expect("a plain path")
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            fs::remove_file(&self.0).expect("the test made it");
        }
    }

    fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Action, ConfigError> {
        let words = std::iter::once("millrace").chain(arguments.iter().copied());
        let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
        load(words.map(OsString::from), environment)
    }

    fn config(arguments: &[&str], environment: &[(&str, &str)]) -> Config {
        match run(arguments, environment).expect("a good configuration") {
            Action::Run(config) => *config,
            other => unreachable!("{other:?}"),
        }
    }

    fn error(arguments: &[&str], environment: &[(&str, &str)]) -> String {
        run(arguments, environment).expect_err("a bad configuration").to_string()
    }

    #[test]
    fn without_words_all_is_default() {
        assert_eq!(config(&[], &[("PATH", "/bin"), ("HOME", "/root")]), Config::default());
    }

    #[test]
    fn flags_override_variables_and_these_the_file() {
        let file = File::new(
            "order",
            "[limits]\nsessions_max = 3\nstreams_max = 3\n[log]\nlevel = \"warn\"",
        );
        let variables =
            [("MILLRACE_LIMITS__SESSIONS_MAX", "4"), ("MILLRACE_LIMITS__STREAMS_MAX", "4")];
        let config = config(&["--config", file.text(), "--limits.streams_max", "5"], &variables);
        assert_eq!(config.log.level, Level::Warn);
        assert_eq!((config.limits.sessions_max, config.limits.streams_max), (4, 5));
    }

    #[test]
    fn every_form_of_a_flag_sets_its_option() {
        for arguments in [
            &["--limits.streams_max", "4"][..],
            &["--limits.streams_max=4"],
            &["--limits.streams_max=2", "--limits.streams_max=4"],
            &["--set", "limits.streams_max=4"],
        ] {
            assert_eq!(config(arguments, &[]).limits.streams_max, 4, "{arguments:?}");
        }
        assert_eq!(config(&["--shards", "1"], &[]).server.shards, 1);
        for arguments in [&["--shards", "4"][..], &["--shards=4"], &["--server.shards", "4"]] {
            assert_eq!(config(arguments, &[]).server.shards, 4, "{arguments:?}");
        }
    }

    #[test]
    fn lists_and_tables_are_written_with_commas_outside_the_file() {
        let config = config(
            &["--network.public_addresses", "127.0.0.1, ::1", "--auth.view_tokens", "lot-*=a,b=c"],
            &[("MILLRACE_NETWORK__ICE_SERVERS", "stun:a.example,turn:b.example ana pass")],
        );
        assert_eq!(config.network.public_addresses.fixed.len(), 2);
        assert_eq!(config.network.ice_servers.len(), 2);
        assert_eq!(config.auth.view_tokens[0].pattern, "lot-*");
        assert_eq!(config.auth.view_tokens[1].token.reveal(), "c");
    }

    #[test]
    fn lists_may_be_written_outside_the_file_as_in_it() {
        for list in [r#"["auto", "127.0.0.1"]"#, "['auto','127.0.0.1']", "[auto, 127.0.0.1]"] {
            let addresses = config(&["--network.public_addresses", list], &[]);
            let addresses = addresses.network.public_addresses;
            assert!(addresses.auto && addresses.fixed.len() == 1, "{list}");
        }
    }

    #[test]
    fn tokens_have_short_variables() {
        let config = config(&[], &[("MILLRACE_PUBLISH_TOKEN", "p"), ("MILLRACE_ADMIN_TOKEN", "a")]);
        assert_eq!(config.auth.publish_token.expect("set").reveal(), "p");
        assert_eq!(config.auth.admin_token.expect("set").reveal(), "a");
    }

    #[test]
    fn systemds_directory_is_the_default_for_state() {
        let systemd = ("STATE_DIRECTORY", "/var/lib/millrace:/var/lib/other");
        let directory = |words: &[&str]| config(words, &[systemd]).server.state_directory;
        assert_eq!(directory(&[]), Path::new("/var/lib/millrace"));
        assert_eq!(directory(&["--server.state_directory", "/x"]), Path::new("/x"));
        assert_eq!(Config::default().server.state_directory, Path::new("millrace-state"));
    }

    /// What is given, and the whole message it must lead to.
    #[test]
    fn every_mistake_in_a_variable_is_named_with_what_would_be_right() {
        let variable = "MILLRACE_LIMITS__SESSIONS_MAX";
        let takes = "but takes a whole number from 1 to 1000000";
        for (name, value, expected) in [
            (variable, "many", format!("limits.sessions_max is \"many\" ({variable}), {takes}")),
            (variable, "0", format!("limits.sessions_max is \"0\" ({variable}), {takes}")),
            (variable, "-1", format!("limits.sessions_max is \"-1\" ({variable}), {takes}")),
            (variable, "", format!("limits.sessions_max is \"\" ({variable}), {takes}")),
            (
                "MILLRACE_LIMITS__SESSION_MAX",
                "7",
                "limits.session_max (MILLRACE_LIMITS__SESSION_MAX) is not an option; did you mean \
                 limits.sessions_max?"
                    .to_owned(),
            ),
            (
                "MILLRACE_PUBLISHTOKEN",
                "x",
                "MILLRACE_PUBLISHTOKEN (environment) is not an option; configs/default.toml lists \
                 them all"
                    .to_owned(),
            ),
            (
                "MILLRACE_LOG__LEVEL",
                "loud",
                "log.level is \"loud\" (MILLRACE_LOG__LEVEL), but takes error, warn, info, debug \
                 or trace"
                    .to_owned(),
            ),
        ] {
            assert_eq!(error(&[], &[(name, value)]), expected);
        }
    }

    #[test]
    fn every_mistake_in_a_file_is_named_with_what_would_be_right() {
        for (text, expected) in [
            ("[limits]\nsessions_max = \"9\"", "limits.sessions_max is \"9\" ("),
            ("[limits]\nsessions_max = 1.5", "limits.sessions_max is 1.5 ("),
            ("[limits]\nsessions_max = 0", "but takes a whole number from 1 to 1000000"),
            ("[limits]\nconsent_timeout_s = 9999999999", "from 5 to 300"),
            ("[server]\nshards = -1", "server.shards is -1 ("),
            ("[server]\nstate_directory = \"\"", "but takes a directory, or auto"),
            ("[network]\nhttp_listen = 8080", "network.http_listen is 8080 ("),
            ("[network]\nhttp_listen = \"localhost:80\"", "*:8080 for every address, or off"),
            ("[network]\nmedia_listen = \"off\"", "or *:8189 for every address"),
            ("[network]\npublic_addresses = \"127.0.0.1\"", "a list of up to 16 addresses"),
            ("[network]\npublic_addresses = [7]", "network.public_addresses is [7] ("),
            ("[network]\nice_servers = [\"turn:x\"]", "turn:host:port username password"),
            ("[network]\ntls_key_file = \"k.pem\"", "belong together: set both, or neither"),
            ("[network]\ndomain = \"192.0.2.7\"", "a host name such as live.example.org"),
            ("[network]\nacme_email = \"ana\"", "an e-mail address, or nothing"),
            ("[network]\nacme_directory_url = \"http://x\"", "https:// URL of an ACME directory"),
            (
                "[network]\ndomain = \"a.b\"\nhttps_listen = \"off\"",
                "network.domain needs network.https",
            ),
            ("[network]\nhttp_listen = \"off\"\nhttps_listen = \"off\"", "are both off"),
            ("[whip]\ncodec_preference = [\"H264\", \"H266\"]", "H264, VP8, VP9, AV1, H265"),
            ("[whep]\nrtx_share_percent = 101", "from 0 to 100"),
            ("[auth]\npublish_tokens = [\"a\"]", "rows of a stream name"),
            ("[auth.view_tokens]\n\"lot ?\" = \"a\"", "rows of a stream name"),
            ("[limit]\nsessions_max = 9", "did you mean limits.sessions_max?"),
            ("sessions_max = 9", "sessions_max ("),
            ("[nothing.like]\nit = 1", "nothing.like ("),
            ("[log]\nlevel = info", "is not TOML:\n"),
        ] {
            let file = File::new("mistake", text);
            let error = error(&["--config", file.text()], &[]);
            assert!(error.contains(expected), "{text:?} gave {error:?}");
            assert!(
                error.contains(file.text()) || error.contains("both"),
                "{text:?}: no file named"
            );
        }
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let error = error(&["--limits.streams_max", "x"], &[("MILLRACE_LOG__FORMAT", "xml")]);
        assert_eq!(error.lines().count(), 2, "{error}");
    }

    #[test]
    fn a_secret_is_not_repeated_in_an_error() {
        for (name, value) in [
            ("MILLRACE_PUBLISH_TOKEN", "hush hush"),
            ("MILLRACE_AUTH__VIEW_TOKENS", "lot=hush hush"),
            ("MILLRACE_NETWORK__ICE_SERVERS", "turn:x ana hush hush"),
        ] {
            let error = error(&[], &[(name, value)]);
            assert!(!error.contains("hush"), "{error}");
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn mistakes_on_the_command_line_are_named() {
        assert!(error(&["--limits.session_max", "7"], &[]).contains("--limits.sessions_max"));
        assert!(error(&["--set", "shards"], &[]).contains("section.key=value"));
        assert!(error(&["--set", "shards=1"], &[]).contains("did you mean"));
        assert!(error(&["--shards"], &[]).contains("--shards"));
        assert!(error(&["--shards", "65"], &[]).contains("server.shards is \"65\" (--shards)"));
        assert!(error(&["--config", "/nowhere.toml"], &[]).contains("/nowhere.toml"));
    }

    #[test]
    fn help_version_and_check_config_print() {
        let printed = |words: &[&str]| match run(words, &[]).expect("good words") {
            Action::Print(text) => text,
            other => unreachable!("{other:?}"),
        };
        assert!(printed(&["--help"]).contains("--limits.viewers_per_stream_max"));
        assert!(printed(&["-h"]).contains("check-config"));
        assert!(printed(&["--version"]).contains(env!("CARGO_PKG_VERSION")));
        assert_eq!(printed(&["check-config"]), "The configuration is fine.\n");
        let doctor = run(&["doctor", "--shards", "1"], &[]).expect("good words");
        assert!(matches!(doctor, Action::Diagnose(config) if config.server.shards == 1));
        let health = run(&["--shards", "1", "healthcheck"], &[]).expect("good words");
        assert!(matches!(health, Action::CheckHealth(config) if config.server.shards == 1));
        assert!(error(&["check-config", "--shards", "x"], &[]).contains("server.shards"));
        assert!(error(&["--shards", "x", "check-config"], &[]).contains("server.shards"));
    }

    #[test]
    fn a_test_server_can_be_put_on_free_loopback_ports() {
        let config = config(
            &[
                "--network.http_listen=127.0.0.1:0",
                "--network.https_listen=off",
                "--network.media_listen=127.0.0.1:0",
            ],
            &[],
        );
        assert_eq!(config.network.https_listen, Listen::Off);
        assert_eq!(config.network.http_listen.address(true).map(|at| at.port()), Some(0));
    }
}
