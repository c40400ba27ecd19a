-- What a cell means. Every cell comes as text; NULL is an empty one. `verify.py` says the same in plain Python.

-- A text without blanks at its ends, and with one blank between its words.
CREATE TEMP MACRO tidy(x) AS
    nullif(trim(regexp_replace(x, '[\s\x{00A0}\x{200B}\x{FEFF}]+', ' ', 'g')), '');

-- The words that people write where there is nothing.
CREATE TEMP MACRO filled(x) AS
    CASE WHEN lower(x) IN ('n/a', 'na', '#n/a', 'null', 'none', 'nan', 'nil', '-', '--', '?') THEN NULL ELSE x END;

-- Spellings that differ by case alone are one.
CREATE TEMP MACRO folded(x) AS lower(x);

-- 1234.5   -12   1e6
CREATE TEMP MACRO is_plain_number(x) AS
    regexp_full_match(x, '[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,2})?');

-- A currency before or behind does not belong to the number.
CREATE TEMP MACRO bare(x) AS regexp_replace(x, '[ $€£]|EUR|USD|GBP', '', 'g');

-- Any of the ways below, in one look: a tally asks this of every cell.
CREATE TEMP MACRO is_number(x) AS
    regexp_full_match(
        bare(x),
        '[-+]?(([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,2})?|[0-9]{1,3}(,[0-9]{3})+(\.[0-9]+)?|[0-9]{1,3}(\.[0-9]{3})+,[0-9]+|[0-9]+,[0-9]+)'
    );

-- 1,234.50   1.234,50   12,5.   After a single comma three digits are thousands.
CREATE TEMP MACRO as_number(x) AS
    CASE
        WHEN is_plain_number(x) THEN try_cast(x AS DOUBLE)
        WHEN is_plain_number(bare(x)) THEN try_cast(bare(x) AS DOUBLE)
        WHEN regexp_full_match(bare(x), '[-+]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]+)?')
            THEN try_cast(replace(bare(x), ',', '') AS DOUBLE)
        WHEN regexp_full_match(bare(x), '[-+]?[0-9]{1,3}(\.[0-9]{3})+,[0-9]+')
            THEN try_cast(replace(replace(bare(x), '.', ''), ',', '.') AS DOUBLE)
        WHEN regexp_full_match(bare(x), '[-+]?[0-9]+,[0-9]+') THEN try_cast(replace(bare(x), ',', '.') AS DOUBLE)
    END;

-- 2024-03-05   2024-03-05T14:03:00.5Z   2024-03-05 14:03+02:00
CREATE TEMP MACRO is_iso_time(x) AS
    regexp_full_match(
        x, '[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([T ][0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?(Z|[-+][0-9]{2}:?[0-9]{2})?)?'
    );
CREATE TEMP MACRO zone_of(x) AS regexp_extract(x, ':[0-9.]+([-+][0-9]{2}:?[0-9]{2})$', 1);
CREATE TEMP MACRO zone_minutes(zone) AS
    CASE
        WHEN zone = '' THEN 0
        ELSE (CASE WHEN zone[1] = '-' THEN -1 ELSE 1 END) * (try_cast(zone[2:3] AS INTEGER) * 60 + try_cast(zone[-2:] AS INTEGER))
    END;
CREATE TEMP MACRO iso_time(x) AS
    try_cast(regexp_replace(regexp_replace(x, '(:[0-9.]+)(Z|[-+][0-9]{2}:?[0-9]{2})$', '\1'), '([T ][0-9]{1,2}:[0-9]{2})$', '\1:00') AS TIMESTAMP)
    - to_minutes(zone_minutes(zone_of(x)));

-- 05.03.2024   and, of either order, 05/03/2024 14:03
CREATE TEMP MACRO is_dotted_time(x) AS
    regexp_full_match(x, '[0-9]{1,2}\.[0-9]{1,2}\.[0-9]{4}( [0-9]{1,2}:[0-9]{2}(:[0-9]{2})?)?');
CREATE TEMP MACRO is_slashed_time(x) AS
    regexp_full_match(x, '[0-9]{1,2}/[0-9]{1,2}/[0-9]{4}( [0-9]{1,2}:[0-9]{2}(:[0-9]{2})?)?');
-- What can only be a day stands first, or second.
CREATE TEMP MACRO is_day_first(x) AS
    regexp_matches(x, '^(1[3-9]|[2-9][0-9])/[0-9]{1,2}/[0-9]{4}( [0-9:]{4,8})?$');
CREATE TEMP MACRO is_month_first(x) AS
    regexp_matches(x, '^[0-9]{1,2}/(1[3-9]|[2-9][0-9])/[0-9]{4}( [0-9:]{4,8})?$');
CREATE TEMP MACRO first_figure(x) AS try_cast(regexp_extract(x, '^([0-9]{1,2})/', 1) AS INTEGER);
CREATE TEMP MACRO second_figure(x) AS try_cast(regexp_extract(x, '^[0-9]{1,2}/([0-9]{1,2})/', 1) AS INTEGER);
CREATE TEMP MACRO day_first_time(x) AS
    try_strptime(
        replace(x, '/', '.'), ['%d.%m.%Y', '%d.%m.%Y %H:%M', '%d.%m.%Y %H:%M:%S']
    );
CREATE TEMP MACRO month_first_time(x) AS
    try_strptime(x, ['%m/%d/%Y', '%m/%d/%Y %H:%M', '%m/%d/%Y %H:%M:%S']);

-- Mar 5, 2024   5 March 2024
CREATE TEMP MACRO is_worded_time(x) AS
    regexp_full_match(x, '([A-Za-z]{3,9} [0-9]{1,2}, [0-9]{4}|[0-9]{1,2} [A-Za-z]{3,9} [0-9]{4})');
CREATE TEMP MACRO worded_time(x) AS
    try_strptime(x, ['%b %d, %Y', '%B %d, %Y', '%d %b %Y', '%d %B %Y']);

CREATE TEMP MACRO is_time(x) AS is_iso_time(x) OR is_dotted_time(x) OR is_slashed_time(x) OR is_worded_time(x);

-- Whether 03/04/2024 could be either of two days, and nothing in its source says which.
CREATE TEMP MACRO is_ambiguous_time(x, date_order) AS
    date_order = 'unknown' AND is_slashed_time(x) AND first_figure(x) <= 12 AND second_figure(x) <= 12
    AND first_figure(x) <> second_figure(x);

CREATE TEMP MACRO any_time(x, date_order) AS
    CASE
        WHEN is_iso_time(x) THEN iso_time(x)
        WHEN is_dotted_time(x) THEN day_first_time(x)
        WHEN is_slashed_time(x) THEN
            CASE
                WHEN first_figure(x) > 12 THEN day_first_time(x)
                WHEN second_figure(x) > 12 THEN month_first_time(x)
                WHEN is_ambiguous_time(x, date_order) THEN NULL
                WHEN date_order = 'month first' THEN month_first_time(x)
                ELSE day_first_time(x)
            END
        WHEN is_worded_time(x) THEN worded_time(x)
    END;

-- A year far away is a slip of the finger.
CREATE TEMP MACRO as_time(x, date_order) AS
    CASE WHEN year(any_time(x, date_order)) BETWEEN 1900 AND 2100 THEN any_time(x, date_order) END;
