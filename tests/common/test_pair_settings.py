from common.pair_settings import PublishedPair, read_pair_settings

HEAD = "method,teacher,student,alpha,beta,options,source\n"


def test_rows_have_numbers_and_options_of_their_types(tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text(f"{HEAD}m,big,small,,8.5,m_T=2.0;m_scales='1',a table\nm,big,tiny,0.5,,,there\n")
    assert read_pair_settings(table) == (
        PublishedPair("m", "big", "small", {"beta": 8.5}, {"m_T": 2.0, "m_scales": "1"}, "a table"),
        PublishedPair("m", "big", "tiny", {"alpha": 0.5}, {}, "there"),
    )
