use super::*;
use proptest::prelude::*;

fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, Stop> {
    let mut fields = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    decoder.read(block, |field| {
        fields.push((text(field.name), text(field.value)));
        true
    })?;
    Ok(fields)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|byte| (byte[0] << 4 | byte[1]) as u8).collect()
}

/// Reads blocks one after the other: what each says, a field a line, and what is in the table then, the newest first.
fn read_all(decoder: &mut Decoder, blocks: &[(&str, &str, &str)]) {
    let lines = |text: &str| -> Vec<String> {
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect()
    };
    let line = |(name, value): (String, String)| format!("{name}: {value}");
    for (block, fields, table) in blocks {
        let found = read(decoder, &hex(block)).unwrap();
        assert_eq!(found.into_iter().map(line).collect::<Vec<_>>(), lines(fields));
        let entries = (62..).map_while(|index| decoder.table.at(index));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let entries = entries.map(|field| line((text(field.name), text(field.value))));
        assert_eq!(entries.collect::<Vec<_>>(), lines(table));
    }
}

/// Appendix C.2.
#[test]
fn each_way_to_say_a_field() {
    read_all(
        &mut Decoder::default(),
        &[
            (
                "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
                "custom-key: custom-header",
                "custom-key: custom-header",
            ),
            (
                "040c 2f73 616d 706c 652f 7061 7468",
                ":path: /sample/path",
                "custom-key: custom-header",
            ),
            (
                "1008 7061 7373 776f 7264 0673 6563 7265 74",
                "password: secret",
                "custom-key: custom-header",
            ),
            ("82", ":method: GET", "custom-key: custom-header"),
        ],
    );
}

const REQUESTS: [(&str, &str); 3] = [
    (
        ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com",
        ":authority: www.example.com",
    ),
    (
        ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache",
        "cache-control: no-cache\n:authority: www.example.com",
    ),
    (
        ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value",
        "custom-key: custom-value\ncache-control: no-cache\n:authority: www.example.com",
    ),
];

/// Appendix C.3.
#[test]
fn requests_without_huffman() {
    let blocks = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    read_all(
        &mut Decoder::default(),
        &[0, 1, 2].map(|n| (blocks[n], REQUESTS[n].0, REQUESTS[n].1)),
    );
}

/// Appendix C.4.
#[test]
fn requests_with_huffman() {
    let blocks = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    read_all(
        &mut Decoder::default(),
        &[0, 1, 2].map(|n| (blocks[n], REQUESTS[n].0, REQUESTS[n].1)),
    );
}

const RESPONSES: [(&str, &str); 3] = [
    (
        ":status: 302
        cache-control: private
        date: Mon, 21 Oct 2013 20:13:21 GMT
        location: https://www.example.com",
        "location: https://www.example.com
        date: Mon, 21 Oct 2013 20:13:21 GMT
        cache-control: private
        :status: 302",
    ),
    (
        ":status: 307
        cache-control: private
        date: Mon, 21 Oct 2013 20:13:21 GMT
        location: https://www.example.com",
        ":status: 307
        location: https://www.example.com
        date: Mon, 21 Oct 2013 20:13:21 GMT
        cache-control: private",
    ),
    (
        ":status: 200
        cache-control: private
        date: Mon, 21 Oct 2013 20:13:22 GMT
        location: https://www.example.com
        content-encoding: gzip
        set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
        "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1
        content-encoding: gzip
        date: Mon, 21 Oct 2013 20:13:22 GMT",
    ),
];

/// Appendices C.5 and C.6, whose table has 256 bytes.
#[test]
fn responses_that_push_each_other_out() {
    let plain = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a
         3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04
         677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49
         553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
    ];
    let huffman = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e
         919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7
         821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed
         4ee5 b106 3d50 07",
    ];
    for blocks in [plain, huffman] {
        let mut decoder = Decoder::default();
        assert!(decoder.table.resize(256));
        read_all(&mut decoder, &[0, 1, 2].map(|n| (blocks[n], RESPONSES[n].0, RESPONSES[n].1)));
    }
}

/// Appendix C.1.
#[test]
fn integers() {
    assert_eq!(integer(&mut &[0b1010][..], 5), Ok(10));
    assert_eq!(integer(&mut &[0b1_1111, 0b1001_1010, 0b1010][..], 5), Ok(1337));
    assert_eq!(integer(&mut &[42][..], 8), Ok(42));
    assert_eq!(integer(&mut &[0xff, 0x80, 0x80, 0x80, 0x00][..], 7), Ok(127));
    for wrong in [&[][..], &[0x7f], &[0x7f, 0x80], &[0x7f, 0x80, 0x80, 0x80, 0x80, 0]] {
        assert_eq!(integer(&mut &wrong[..], 7), Err(Stop::Broken), "{wrong:?}");
    }
}

#[test]
fn what_cannot_be_read() {
    for (what, block) in [
        ("index 0", &[0x80][..]),
        ("an index beyond the tables", &[0xbe]),
        ("a name beyond the tables", &[0x7e, 0, 1, b'x']),
        ("no value", &[0, 1, b'a']),
        ("a string longer than the block", &[0, 2, b'a']),
        ("the end of the string within it", &[0, 1, b'a', 0x84, 0xff, 0xff, 0xff, 0xff]),
        ("another size behind a field", &[0x82, 0x20]),
        ("a size that was not offered", &[0x3f, 0xe2, 0x1f]),
    ] {
        assert_eq!(read(&mut Decoder::default(), block), Err(Stop::Broken), "{what}");
    }
    let mut decoder = Decoder::default();
    assert_eq!(read(&mut decoder, &[0x20, 0x3f, 0xe1, 0x1f]), Ok(vec![]), "sizes that were");
    assert_eq!(decoder.read(&[0x82, 0x80], |_| false), Err(Stop::Enough));
}

/// The name of a new entry may be that of one which it pushes out.
#[test]
fn a_name_outlives_its_entry() {
    let mut decoder = Decoder::default();
    let large = vec![b'v'; 4000];
    let mut block = vec![0x40, 1, b'n', 0x7f];
    block.extend([0xa1, 0x1e]);
    block.extend(&large);
    read(&mut decoder, &block).unwrap();
    let mut block = vec![0x7e, 0x7f, 0xa1, 0x1e];
    block.extend(&large);
    assert_eq!(read(&mut decoder, &block).unwrap()[0].0, "n");
    assert_eq!(read(&mut decoder, &[0xbe]).unwrap()[0].0, "n");
    assert_eq!(read(&mut decoder, &[0xbf]), Err(Stop::Broken));
}

proptest! {
    #[test]
    fn what_is_written_is_read(name in ".{0,300}", value in ".{0,300}") {
        let mut block = Vec::new();
        write(name.as_bytes(), value.as_bytes(), &mut block);
        let mut decoder = Decoder::default();
        prop_assert_eq!(read(&mut decoder, &block), Ok(vec![(name, value)]));
        prop_assert_eq!(decoder.table.at(62), None);
    }

    #[test]
    fn nothing_makes_it_panic(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..5)) {
        let mut decoder = Decoder::default();
        for block in blocks {
            let _ = read(&mut decoder, &block);
        }
    }
}
