//! A page as SVG.

use std::fmt::Write;

use super::scene::{Anchor, BACKGROUND, Mark, Scene};

/// The page as the text of an SVG file.
pub(crate) fn svg(scene: &Scene) -> String {
    let (width, height) = (scene.width, scene.height);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         font-family=\"system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"{}\"/>\n",
        hexadecimal(BACKGROUND)
    );
    for mark in &scene.marks {
        out.push_str(&element(mark));
        out.push('\n');
    }
    out.push_str("</svg>\n");
    out
}

fn element(mark: &Mark) -> String {
    match mark {
        Mark::Line { points, width, colour, opacity } => {
            let mut list = String::new();
            for [x, y] in points {
                // Writing to a text cannot fail.
                let _ = write!(list, "{}{x:.1},{y:.1}", if list.is_empty() { "" } else { " " });
            }
            let opacity = if *opacity < 1.0 { format!(" stroke-opacity=\"{opacity}\"") } else { String::new() };
            format!(
                "<polyline points=\"{list}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{width}\"{opacity} \
                 stroke-linecap=\"round\" stroke-linejoin=\"round\"/>",
                hexadecimal(*colour)
            )
        }
        Mark::Text { at: [x, y], text, size, anchor, bold, colour } => {
            let anchor = match anchor {
                Anchor::Start => "",
                Anchor::Middle => " text-anchor=\"middle\"",
                Anchor::End => " text-anchor=\"end\"",
            };
            let weight = if *bold { " font-weight=\"600\"" } else { "" };
            let fill = hexadecimal(*colour);
            format!(
                "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{fill}\"{anchor}{weight}>{}</text>",
                escaped(text)
            )
        }
    }
}

fn hexadecimal([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            // No XML may hold other control characters.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_become_elements() {
        let marks = vec![
            Mark::Line { points: vec![[1.0, 2.0], [3.25, 4.0]], width: 2.0, colour: [0, 128, 255], opacity: 0.5 },
            Mark::Text {
                at: [5.0, 6.0],
                text: "a<b & c\u{1}".into(),
                size: 13.0,
                anchor: Anchor::End,
                bold: true,
                colour: [1, 2, 3],
            },
        ];
        let text = svg(&Scene { width: 100.0, height: 50.0, marks });
        assert!(text.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"100\" height=\"50\""), "{text}");
        assert!(text.contains("points=\"1.0,2.0 3.2,4.0\"") && text.contains("stroke=\"#0080ff\""), "{text}");
        assert!(text.contains("stroke-opacity=\"0.5\"") && text.contains("text-anchor=\"end\""), "{text}");
        assert!(text.contains(">a&lt;b &amp; c </text>") && text.ends_with("</svg>\n"), "{text}");
    }
}
